"""Take the items of a run through its stages: `inline` in this process, `ray` on all cores or a cluster."""
