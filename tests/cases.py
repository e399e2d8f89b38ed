"""unittest with its cases in Bazel's test.xml, so that `./run test` counts them and shows what was skipped, and why."""
import os
import sys
import unittest

import xmlrunner


def main():
    path = os.environ.get("XML_OUTPUT_FILE")
    if path is None:
        unittest.main(argv=sys.argv[:1])
    with open(path, "wb") as file:
        unittest.main(argv=sys.argv[:1], testRunner=xmlrunner.XMLTestRunner(output=file))
