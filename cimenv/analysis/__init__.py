"""Floor 6: what is asked of a task as a whole: enumeration, validation, sensitivity, fronts, attacks, candidates."""
