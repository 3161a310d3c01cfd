"""Two results folders, run by run: is what the second measured what the first says?"""
