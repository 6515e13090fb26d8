"""Changes of an object's look that need no trained model: colour, tone, grey, patterns and two colours."""
