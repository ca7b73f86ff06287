"""Lightning callbacks: writers, figures and monitors."""
