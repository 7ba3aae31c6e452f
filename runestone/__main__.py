"""`python -m runestone` is the same program as `runestone`."""

from runestone.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
