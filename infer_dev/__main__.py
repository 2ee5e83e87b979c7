"""`python -m infer_dev` is the same as `infer-dev`."""

from infer_dev.cli.main import run

if __name__ == "__main__":
    run()
