"""The embedded vision-language model: measured attributes, put into sentence templates."""
