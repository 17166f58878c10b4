"""The one compiled part: the tree kernel (exact scores and Shapley values, float64, no fast-math)."""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "fiduciary.models._kernel",
            sources=["src/fiduciary/models/_kernel.c"],
            # -ffp-contract=off: no fused multiply-add, so every machine gives the same bits (replay).
            extra_compile_args=["-O3", "-ffp-contract=off", "-fno-fast-math", "-std=c11"],
        )
    ]
)
