"""`python -m maskwright`: the same as the installed command."""

from maskwright.cli import main

if __name__ == "__main__":
    main()
