"""`python -m crmd` is `crmd`."""

from crmd.cli.main import main

if __name__ == "__main__":
    main()
