from ._entry import report as report
