"""The claims of the method, measured again: `prm reproduce`.

cells (stages of their own) ──lab──▶ scores and votes beside true labels ──figures──▶ results
"""
