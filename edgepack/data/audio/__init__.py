"""Sounds: files to samples, resampling, spectra, log-mel energies and MFCC. numpy alone: devices compute them too."""
