"""What experiments share: the journal of finished jobs, rows, tables, figures, statistics."""
