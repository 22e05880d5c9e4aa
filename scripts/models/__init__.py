"""The network: training, calibration, conversion, export."""
