"""``python -m palate`` is the ``palate`` command."""

from palate.cli.app import main

if __name__ == "__main__":
    main()
