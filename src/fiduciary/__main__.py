"""`python -m fiduciary` is the `fiduciary` program."""

from fiduciary.cli import main

if __name__ == "__main__":
    main()
