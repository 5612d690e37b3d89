from condgan.runs.report.page import write_report

__all__ = ["write_report"]
