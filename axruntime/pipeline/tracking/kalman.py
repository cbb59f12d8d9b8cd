"""The motion of all tracks at once: a Kalman filter of constant velocity for each of four coordinates."""

from typing import Self

from axforge.axruntime.lazy import Array, np


class Motion:
    """position, velocity, and their variances and covariance: float64 [n, 4] each, for n tracks of four coordinates.

    The trackers' filters have diagonal noise, and a coordinate's velocity moves only that coordinate. So the 8x8 covariance of a track
    has four blocks of 2x2 and nothing else, and the usual filter is this arithmetic for each coordinate.
    """

    __slots__ = ("covariance", "position", "position_variance", "velocity", "velocity_variance")

    def __init__(self, position: Array, position_variance: Array, velocity_variance: Array) -> None:
        self.position = np.array(position, np.float64).reshape(-1, 4)
        self.velocity = np.zeros_like(self.position)
        self.position_variance = np.broadcast_to(position_variance, self.position.shape).astype(np.float64)
        self.velocity_variance = np.broadcast_to(velocity_variance, self.position.shape).astype(np.float64)
        self.covariance = np.zeros_like(self.position)

    def predict(self, position_noise: Array | float, velocity_noise: Array | float) -> None:
        """A step of time. The noises are variances, which broadcast to [n, 4]."""
        self.position += self.velocity
        self.position_variance += 2 * self.covariance + self.velocity_variance + position_noise
        self.covariance += self.velocity_variance
        self.velocity_variance += velocity_noise

    def update(self, rows: Array, measured: Array, noise: Array | float) -> None:
        """Correct the tracks `rows` [m] by their measured positions [m, 4]; noise: the variances of these."""
        total = self.position_variance[rows] + noise
        gain, velocity_gain = self.position_variance[rows] / total, self.covariance[rows] / total
        surprise = measured - self.position[rows]
        self.position[rows] += gain * surprise
        self.velocity[rows] += velocity_gain * surprise
        self.velocity_variance[rows] -= velocity_gain * self.covariance[rows]
        self.position_variance[rows] -= gain * self.position_variance[rows]
        self.covariance[rows] -= gain * self.covariance[rows]

    def take(self, rows: Array) -> Self:
        """A copy of some tracks."""
        taken = type(self).__new__(type(self))
        for name in self.__slots__:
            setattr(taken, name, getattr(self, name)[rows].copy())
        return taken

    def put(self, rows: Array, others: Self) -> None:
        """Replace the tracks `rows` by `others`."""
        for name in self.__slots__:
            getattr(self, name)[rows] = getattr(others, name)

    def extend(self, others: Self) -> None:
        """Append the tracks of `others`."""
        for name in self.__slots__:
            setattr(self, name, np.concatenate([getattr(self, name), getattr(others, name)]))
