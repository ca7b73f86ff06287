"""Lightning callbacks: scene writers, training reports, monitors."""
