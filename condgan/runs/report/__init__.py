from condgan.runs.report.page import report_page, write_report

__all__ = ["report_page", "write_report"]
