"""What every part agrees on: configuration, keys, manifests, the stage contract and the store."""
