"""Run all tests with the interpreter that runs this: python tests/run.py [name…]."""

import os
import sys
import unittest

if __name__ == "__main__":
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    sys.path[0] = root
    sys.dont_write_bytecode = True
    suite = unittest.TestLoader().discover(os.path.join(root, "tests"), top_level_dir=root)
    if len(sys.argv) > 1:
        suite = unittest.TestLoader().loadTestsFromNames(sys.argv[1:])
    result = unittest.TextTestRunner(verbosity=1).run(suite)
    sys.exit(not result.wasSuccessful())
