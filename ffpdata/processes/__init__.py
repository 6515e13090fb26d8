"""Child processes and the Ray cluster: commands and options go in; supervised processes and a connection come out."""
