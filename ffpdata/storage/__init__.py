"""Storage of run folders, local or on object stores: paths go in; files, locks and local copies come out."""
