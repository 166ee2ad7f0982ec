"""What a run prints: progress, tables, single cases. Nothing is computed here."""
