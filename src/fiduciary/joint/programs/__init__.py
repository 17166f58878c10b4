"""Programs that run inside a worker, and what they share. Nothing here is imported by the main process."""
