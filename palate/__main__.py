"""``python -m palate`` is the ``palate`` command."""

from palate.cli.app import run

if __name__ == "__main__":
    run()
