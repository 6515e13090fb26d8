"""`python -m ffpdata.cli` is the `ffpdata` command."""

from ffpdata.cli import main

main()
