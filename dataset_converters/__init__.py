"""Raw reviews in, RecBole atomic files with a review sidecar out."""
