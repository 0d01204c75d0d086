"""``python -m palate``: the command line without the script."""

from palate.cli.app import main

if __name__ == "__main__":
    main()
