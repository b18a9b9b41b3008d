"""`python -m streamgen.pocket STAGE`: see stages.py."""

from streamgen.pocket.stages import main

if __name__ == "__main__":
    main()
