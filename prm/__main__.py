"""`python -m prm`, for launchers such as accelerate and torchrun."""

import sys

from prm.cli import main

sys.exit(main())
