"""The compiled parts: the tree kernel (exact scores and Shapley values) and the search on trees, in float64."""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "fiduciary.models._kernel",
            sources=["src/fiduciary/models/_kernel.c"],
            # -ffp-contract=off: no fused multiply-add, so every machine gives the same bits (replay).
            extra_compile_args=["-O3", "-ffp-contract=off", "-fno-fast-math", "-std=c11"],
        ),
        Extension(
            "fiduciary.checks._reach",
            sources=["src/fiduciary/checks/_reach.c"],
            extra_compile_args=["-O3", "-ffp-contract=off", "-fno-fast-math", "-std=c11"],
        ),
    ]
)
