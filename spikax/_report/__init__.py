from ._entry import given_to as given_to, report as report
