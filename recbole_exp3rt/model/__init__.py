"""One file a RecBole model."""
