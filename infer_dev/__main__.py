"""`python -m infer_dev` is the same as `infer-dev`."""

import sys

from infer_dev.cli.main import main

sys.exit(main())
