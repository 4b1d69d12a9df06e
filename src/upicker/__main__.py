"""``python -m upicker``."""

from upicker.cli import main

if __name__ == "__main__":
    main()
