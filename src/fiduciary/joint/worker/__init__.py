"""What runs inside a worker environment: standard library, numpy and the engine, nothing of the product's own
dependencies. Both sides of the pipe use `_frames` and `_digest`; `_main` runs in the worker alone."""
