"""`python -m ffpdata` is the `ffpdata` command."""

from ffpdata.cli import main

main()
