"""Small pretrained networks that public packages carry: which they are, where they lie, and how they get here."""
