"""Projects (29.2): created once, loaded afterwards, overwritten, deleted."""

import uuid

import mlrun
from flow import Flow


class Projects(Flow):
    def name(self):
        return "sdk-" + uuid.uuid4().hex[:10]

    def test_created_then_loaded(self):
        name = self.name()
        first = mlrun.get_or_create_project(name, context=str(self.folder / name))
        first.spec.description = "what it is for"
        first.metadata.labels = {"team": "blue"}
        first.spec.params = {"rate": 0.1}
        first.save()
        again = mlrun.get_or_create_project(name, context=str(self.folder / (name + "-again")))
        self.assertEqual(again.spec.description, "what it is for")
        self.assertEqual(again.metadata.labels, {"team": "blue"})
        self.assertEqual(again.spec.params, {"rate": 0.1})

    def test_a_second_create_is_a_conflict(self):
        name = self.name()
        mlrun.new_project(name, context=str(self.folder / name))
        with self.assertRaises(mlrun.errors.MLRunConflictError):
            self.db.create_project(mlrun.projects.MlrunProject.from_dict({"metadata": {"name": name}}))

    def test_a_bad_name_is_refused(self):
        with self.assertRaises(Exception) as caught:
            self.db.create_project({"metadata": {"name": "Not A Name"}, "spec": {}})
        self.assertIn("Not A Name", str(caught.exception))

    def test_listed_and_filtered_by_label(self):
        name = self.name()
        label = "label-" + name
        project = mlrun.get_or_create_project(name, context=str(self.folder / name))
        project.metadata.labels = {label: "yes"}
        project.save()
        self.assertIn(name, self.db.list_projects())
        self.assertEqual(self.db.list_projects(labels=[label]), [name])
        self.assertEqual(self.db.list_projects(labels=[f"{label}=no"]), [])

    def test_overwritten_by_a_new_one(self):
        name = self.name()
        context = str(self.folder / name)
        old = mlrun.new_project(name, context=context)
        old.spec.description = "old"
        old.save()
        mlrun.new_function("f", project=name, kind="job", image="x").save()
        new = mlrun.new_project(name, context=context, overwrite=True)
        self.assertFalse(new.spec.description)
        self.assertFalse(new.list_functions())

    def test_deleted_only_when_empty_unless_cascading(self):
        name = self.name()
        mlrun.new_project(name, context=str(self.folder / name))
        mlrun.new_function("f", project=name, kind="job", image="x").save()
        with self.assertRaises(mlrun.errors.MLRunPreconditionFailedError):
            self.db.delete_project(name)
        self.assertIn(name, self.db.list_projects())
        self.db.delete_project(name, deletion_strategy="cascade")
        self.assertNotIn(name, self.db.list_projects())

    def test_an_empty_one_is_deleted(self):
        name = self.name()
        mlrun.new_project(name, context=str(self.folder / name))
        self.db.delete_project(name)
        self.assertNotIn(name, self.db.list_projects())

    def test_patched(self):
        name = self.name()
        mlrun.new_project(name, context=str(self.folder / name))
        self.db.patch_project(name, {"spec": {"description": "patched"}})
        self.assertEqual(self.db.get_project(name).spec.description, "patched")
