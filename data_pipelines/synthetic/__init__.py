"""Made-up people who talk: who they are, what they say, how it sounds and how they move. No recording is involved."""
