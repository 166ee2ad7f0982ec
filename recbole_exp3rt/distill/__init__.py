"""What a student learns from: a teacher's answers, judged and kept as chat examples."""
