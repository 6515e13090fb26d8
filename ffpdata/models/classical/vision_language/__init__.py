"""The embedded vision-language model: it measures and puts the measured words into templates."""
