"""The doctor: what is wrong, or worth knowing, about a dataset before anybody trains on it."""

from palate.data.doctor.examine import DoctorReport, examine
from palate.data.doctor.finding import Finding, Level

__all__ = ["DoctorReport", "Finding", "Level", "examine"]
