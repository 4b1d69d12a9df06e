"""Files <-> values. The only room that knows suffixes, columns and flips."""
