"""Find and name the characters of an animated or drawn series in scenes.

``enrol`` builds a gallery, ``load`` opens the analyzer of a gallery or a run, ``evaluate`` measures its results; the
other names are its parts, and the modules and metrics to train and evaluate them. Names are imported on first use, so
importing the package imports neither torch nor NumPy.

Examples:
    >>> import naruto_vision as nv
    >>> analyzer = nv.load("runs")  # doctest: +SKIP
    >>> analyzer.analyze("scene.jpg").save("named.jpg")  # doctest: +SKIP
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for type checkers and editors; the same names as in _HOMES
    from naruto_vision.callbacks.card import RunCard as RunCard
    from naruto_vision.callbacks.reports import TuningFiles as TuningFiles
    from naruto_vision.callbacks.scenes import SceneReportCallback as SceneReportCallback
    from naruto_vision.callbacks.scenes import SceneWriterCallback as SceneWriterCallback
    from naruto_vision.callbacks.tensorboard import LateTensorBoardLogger as LateTensorBoardLogger
    from naruto_vision.callbacks.tensorboard import SceneFigures as SceneFigures
    from naruto_vision.callbacks.tensorboard import TuningFigures as TuningFigures
    from naruto_vision.captioning.attributes import AttributeDescriber as AttributeDescriber
    from naruto_vision.captioning.endpoint import EndpointDescriber as EndpointDescriber
    from naruto_vision.captioning.local import TransformersDescriber as TransformersDescriber
    from naruto_vision.captioning.protocol import AskingRule as AskingRule
    from naruto_vision.captioning.protocol import Described as Described
    from naruto_vision.captioning.protocol import Description as Description
    from naruto_vision.captioning.protocol import describe_regions as describe_regions
    from naruto_vision.captioning.relations import Relation as Relation
    from naruto_vision.captioning.relations import relate_regions as relate_regions
    from naruto_vision.data.box_data import BoxDataModule as BoxDataModule
    from naruto_vision.data.caption_data import CaptionDataModule as CaptionDataModule
    from naruto_vision.data.class_data import ClassDataModule as ClassDataModule
    from naruto_vision.data.exporting import export_scenes as export_scenes
    from naruto_vision.data.gallery_data import GalleryDataModule as GalleryDataModule
    from naruto_vision.data.ground_truth import read_gt as read_gt
    from naruto_vision.data.ground_truth import read_prediction_folder as read_prediction_folder
    from naruto_vision.data.masks import CocoMasks as CocoMasks
    from naruto_vision.data.masks import MaskData as MaskData
    from naruto_vision.data.masks import SyntheticMasks as SyntheticMasks
    from naruto_vision.data.stream_data import StreamDataModule as StreamDataModule
    from naruto_vision.data.synthetic_captions import SyntheticCaptionData as SyntheticCaptionData
    from naruto_vision.encoders.backbone import TimmEncoder as TimmEncoder
    from naruto_vision.encoders.base import embed_images as embed_images
    from naruto_vision.encoders.clip import ClipEncoder as ClipEncoder
    from naruto_vision.encoders.dense import dense_map as dense_map
    from naruto_vision.encoders.dino import DinoEncoder as DinoEncoder
    from naruto_vision.encoders.ensemble import ClipEnsemble as ClipEnsemble
    from naruto_vision.encoders.ensemble import EnsembleEncoder as EnsembleEncoder
    from naruto_vision.encoders.exported import ExportedEncoder as ExportedEncoder
    from naruto_vision.encoders.int8 import Int8Encoder as Int8Encoder
    from naruto_vision.errors import NarutoVisionError as NarutoVisionError
    from naruto_vision.gallery.content import GalleryRow as GalleryRow
    from naruto_vision.gallery.edits import add_rows as add_rows
    from naruto_vision.gallery.edits import relabel_rows as relabel_rows
    from naruto_vision.gallery.edits import remove_rows as remove_rows
    from naruto_vision.gallery.edits import roll_back as roll_back
    from naruto_vision.gallery.enrolment import EnrolmentConfig as EnrolmentConfig
    from naruto_vision.gallery.gallery import Gallery as Gallery
    from naruto_vision.gallery.gallery import edit_gallery as edit_gallery
    from naruto_vision.gallery.vector_store import open_store as open_store
    from naruto_vision.io.images import read_image as read_image
    from naruto_vision.io.video import VideoFrame as VideoFrame
    from naruto_vision.io.video import VideoInfo as VideoInfo
    from naruto_vision.io.video import VideoReader as VideoReader
    from naruto_vision.io.video import VideoWriter as VideoWriter
    from naruto_vision.io.video import resize_frame as resize_frame
    from naruto_vision.io.video import video_info as video_info
    from naruto_vision.io.video_process import cut_video as cut_video
    from naruto_vision.jobs import enrol as enrol
    from naruto_vision.jobs import evaluate as evaluate
    from naruto_vision.loading import load as load
    from naruto_vision.metrics.evaluation import evaluate_scenes as evaluate_scenes
    from naruto_vision.metrics.scene_accuracy import SceneAccuracy as SceneAccuracy
    from naruto_vision.modules.clip_tuner import ContrastiveTuner as ContrastiveTuner
    from naruto_vision.modules.region_tuner import RegionTuner as RegionTuner
    from naruto_vision.modules.sam_tuner import SegmenterTuner as SegmenterTuner
    from naruto_vision.modules.scene_retriever import SceneRetriever as SceneRetriever
    from naruto_vision.modules.weight_choice import ChooseWeights as ChooseWeights
    from naruto_vision.modules.wise_ft import WiseSweep as WiseSweep
    from naruto_vision.modules.zero_shot import ZeroShotRetention as ZeroShotRetention
    from naruto_vision.prompting.contours import ContourPrompter as ContourPrompter
    from naruto_vision.prompting.exemplar import Exemplar as Exemplar
    from naruto_vision.prompting.exemplar import ExemplarMode as ExemplarMode
    from naruto_vision.prompting.exemplar import ExemplarPrompter as ExemplarPrompter
    from naruto_vision.prompting.saliency import SaliencyMode as SaliencyMode
    from naruto_vision.prompting.saliency import SaliencyPrompter as SaliencyPrompter
    from naruto_vision.prompting.session import PromptSession as PromptSession
    from naruto_vision.prompting.sweep import SweepConfig as SweepConfig
    from naruto_vision.prompting.sweep import SweepSegmenter as SweepSegmenter
    from naruto_vision.prompting.text import OpenVocabularyPrompter as OpenVocabularyPrompter
    from naruto_vision.prompting.text import TextPrompter as TextPrompter
    from naruto_vision.recognition.analyzer import SceneAnalyzer as SceneAnalyzer
    from naruto_vision.recognition.lookup import look_up as look_up
    from naruto_vision.recognition.lookup import measure_threshold as measure_threshold
    from naruto_vision.recognition.merging import MergeConfig as MergeConfig
    from naruto_vision.recognition.result import SceneResult as SceneResult
    from naruto_vision.records import Identity as Identity
    from naruto_vision.records import LabelledBox as LabelledBox
    from naruto_vision.records import Neighbour as Neighbour
    from naruto_vision.records import Prompt as Prompt
    from naruto_vision.records import Region as Region
    from naruto_vision.records import ScenePrediction as ScenePrediction
    from naruto_vision.segmentation.crops import CropConfig as CropConfig
    from naruto_vision.segmentation.detector import BoxDetector as BoxDetector
    from naruto_vision.segmentation.detector import BoxModel as BoxModel
    from naruto_vision.segmentation.detector import DetectorPrompter as DetectorPrompter
    from naruto_vision.segmentation.generator import Segmenter as Segmenter
    from naruto_vision.segmentation.opening import open_promptable_model as open_promptable_model
    from naruto_vision.segmentation.prompts import GridPrompter as GridPrompter
    from naruto_vision.segmentation.sam import SamModel as SamModel
    from naruto_vision.segmentation.sam2 import Sam2Model as Sam2Model
    from naruto_vision.segmentation.sam2_video import Sam2Memory as Sam2Memory
    from naruto_vision.video.index import FrameSampling as FrameSampling
    from naruto_vision.video.index import index_videos as index_videos
    from naruto_vision.video.outputs import write_moments as write_moments
    from naruto_vision.video.search import search_videos as search_videos
    from naruto_vision.viz.overlay import OverlayConfig as OverlayConfig

_HOMES = {
    "callbacks.reports": "TuningFiles",
    "callbacks.scenes": "SceneReportCallback SceneWriterCallback",
    "callbacks.card": "RunCard",
    "callbacks.tensorboard": "LateTensorBoardLogger SceneFigures TuningFigures",
    "modules.weight_choice": "ChooseWeights",
    "modules.wise_ft": "WiseSweep",
    "modules.zero_shot": "ZeroShotRetention",
    "captioning.attributes": "AttributeDescriber",
    "captioning.endpoint": "EndpointDescriber",
    "captioning.local": "TransformersDescriber",
    "captioning.protocol": "AskingRule Described Description describe_regions",
    "captioning.relations": "Relation relate_regions",
    "data.box_data": "BoxDataModule",
    "data.caption_data": "CaptionDataModule",
    "data.class_data": "ClassDataModule",
    "data.exporting": "export_scenes",
    "data.gallery_data": "GalleryDataModule",
    "data.ground_truth": "read_gt read_prediction_folder",
    "data.masks": "CocoMasks MaskData SyntheticMasks",
    "data.stream_data": "StreamDataModule",
    "data.synthetic_captions": "SyntheticCaptionData",
    "encoders.backbone": "TimmEncoder",
    "encoders.base": "embed_images",
    "encoders.clip": "ClipEncoder",
    "encoders.dense": "dense_map",
    "encoders.dino": "DinoEncoder",
    "encoders.ensemble": "ClipEnsemble EnsembleEncoder",
    "encoders.exported": "ExportedEncoder",
    "encoders.int8": "Int8Encoder",
    "errors": "NarutoVisionError",
    "gallery.content": "GalleryRow",
    "gallery.edits": "add_rows relabel_rows remove_rows roll_back",
    "gallery.enrolment": "EnrolmentConfig",
    "gallery.gallery": "Gallery edit_gallery",
    "gallery.vector_store": "open_store",
    "io.images": "read_image",
    "io.video": "VideoFrame VideoInfo VideoReader VideoWriter resize_frame video_info",
    "io.video_process": "cut_video",
    "jobs": "enrol evaluate",
    "loading": "load",
    "metrics.evaluation": "evaluate_scenes",
    "metrics.scene_accuracy": "SceneAccuracy",
    "modules.clip_tuner": "ContrastiveTuner",
    "modules.region_tuner": "RegionTuner",
    "modules.sam_tuner": "SegmenterTuner",
    "modules.scene_retriever": "SceneRetriever",
    "prompting.contours": "ContourPrompter",
    "prompting.exemplar": "Exemplar ExemplarMode ExemplarPrompter",
    "prompting.saliency": "SaliencyMode SaliencyPrompter",
    "prompting.session": "PromptSession",
    "prompting.sweep": "SweepConfig SweepSegmenter",
    "prompting.text": "OpenVocabularyPrompter TextPrompter",
    "recognition.analyzer": "SceneAnalyzer",
    "recognition.lookup": "look_up measure_threshold",
    "recognition.merging": "MergeConfig",
    "recognition.result": "SceneResult",
    "records": "Identity LabelledBox Neighbour Prompt Region ScenePrediction",
    "segmentation.crops": "CropConfig",
    "segmentation.detector": "BoxDetector BoxModel DetectorPrompter",
    "segmentation.generator": "Segmenter",
    "segmentation.opening": "open_promptable_model",
    "segmentation.prompts": "GridPrompter",
    "segmentation.sam": "SamModel",
    "segmentation.sam2": "Sam2Model",
    "segmentation.sam2_video": "Sam2Memory",
    "video.index": "FrameSampling index_videos",
    "video.outputs": "write_moments",
    "video.search": "search_videos",
    "viz.overlay": "OverlayConfig",
}
_HOME = {name: f"{__name__}.{module}" for module, names in _HOMES.items() for name in names.split()}

__all__ = list(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
