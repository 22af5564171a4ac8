"""``python -m ampgrid``: the same as the command ``ampgrid``."""

from ampgrid.cli.main import main

if __name__ == "__main__":
    main()
