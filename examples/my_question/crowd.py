"""A stage that asks the vision-language model a question of one's own."""

from ffpdata import Reject, StageSettings, VisionStage


class Crowd(VisionStage):
    name, version = "crowd", 1
    reads = ("source_video",)
    writes = {"people": int}
    prompts = ("crowd",)  # the file crowd.yaml

    class Settings(StageSettings):
        most: int = 3

    def process(self, row):
        people = self.ask(row, {}, {"source": "source_video"})["people"]
        if people > self.settings.most:
            raise Reject("crowded", f"{people} people, at most {self.settings.most}", {"people": people})
        return {"people": people}
