"""FreeProp on Wan2.1-Fun-Control: first-frame propagation (paper, section 4)."""
