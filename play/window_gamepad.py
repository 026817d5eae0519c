"""Gamepads: sticks, hats and buttons as controls with names ("pad left", "pad 0"). They may come and go."""

from __future__ import annotations

from collections.abc import Callable

import pygame

PRESSED, RELEASED = 0.5, 0.35  # of a stick's way: between the two nothing changes
STICK = {0: ("pad left", "pad right"), 1: ("pad up", "pad down")}


class Gamepads:
    """handle() takes pygame's events. on_control(control, is_down, pad): a control of a gamepad went down or up;
    on_gone(pad): it was unplugged. pad names it: "gamepad 3"."""

    def __init__(
        self,
        on_control: Callable[[str, bool, str], None],
        on_gone: Callable[[str], None],
        say: Callable[[str], None],
    ):
        self._on_control, self._on_gone, self._say = on_control, on_gone, say
        self._open: dict[int, pygame.joystick.JoystickType] = {}
        self._down: dict[int, set[str]] = {}
        pygame.joystick.init()

    def handle(self, event: pygame.event.Event) -> bool:
        """Whether the event was a gamepad's."""
        if event.type == pygame.JOYDEVICEADDED:
            joystick = pygame.joystick.Joystick(event.device_index)
            self._open[joystick.get_instance_id()] = joystick  # SDL closes what nobody holds
            self._say(f"{joystick.get_name()} connected")
        elif event.type == pygame.JOYDEVICEREMOVED:
            self._open.pop(event.instance_id, None)
            self._down.pop(event.instance_id, None)
            self._on_gone(_name(event.instance_id))
            self._say("gamepad unplugged: the keyboard plays on")
        elif event.type == pygame.JOYAXISMOTION and event.axis in STICK:
            back, forth = STICK[event.axis]
            self._lean(event.instance_id, back, -event.value)
            self._lean(event.instance_id, forth, event.value)
        elif event.type == pygame.JOYHATMOTION:
            x, y = event.value
            for control, is_down in (("left", x < 0), ("right", x > 0), ("up", y > 0), ("down", y < 0)):
                self._set(event.instance_id, f"pad {control}", is_down)
        elif event.type in (pygame.JOYBUTTONDOWN, pygame.JOYBUTTONUP):
            self._set(event.instance_id, f"pad {event.button}", event.type == pygame.JOYBUTTONDOWN)
        else:
            return False
        return True

    def _lean(self, pad: int, control: str, value: float) -> None:
        if value > PRESSED:
            self._set(pad, control, True)
        elif value < RELEASED:
            self._set(pad, control, False)

    def _set(self, pad: int, control: str, is_down: bool) -> None:
        down = self._down.setdefault(pad, set())
        if is_down != (control in down):
            (down.add if is_down else down.discard)(control)
            self._on_control(control, is_down, _name(pad))


def _name(pad: int) -> str:
    return f"gamepad {pad}"
