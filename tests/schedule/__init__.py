"""Mail that its member schedules: when it goes out, and that it can be moved and cancelled until then."""
