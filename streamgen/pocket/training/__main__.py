"""`python -m streamgen.pocket.training STAGE`: see stages.py."""

from streamgen.pocket.training.stages import main

if __name__ == "__main__":
    main()
