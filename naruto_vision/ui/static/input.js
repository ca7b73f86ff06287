// Files that are chosen, dropped, pasted or photographed go to /api/files; the element then gets a "files" event with their ids.
(() => {
  const send = async (zone, files) => {
    const ids = [], errors = [];
    zone.classList.add("nv-busy");
    for (const file of files) {  // a request each: one that is refused does not take the others with it
      const form = new FormData();
      form.append("files", file, file.name || "pasted.png");
      try {
        const answer = await fetch("/api/files", { method: "POST", body: form });
        const body = await answer.json();
        if (answer.ok) ids.push(body[0].id);
        else errors.push(typeof body.detail === "string" ? body.detail : answer.statusText);
      } catch (error) {
        errors.push(`${file.name}: the upload was refused or interrupted; the file may be too large`);
      }
    }
    zone.classList.remove("nv-busy");
    zone.dispatchEvent(new CustomEvent("files", { detail: { ids, errors } }));
  };
  let input; // held here: one that nothing refers to may be collected before its files are chosen
  const choose = (zone) => {
    input = document.createElement("input");
    input.type = "file";
    input.accept = zone.dataset.accept;
    input.multiple = true;
    input.onchange = () => input.files.length && send(zone, [...input.files]);
    input.click();
  };
  const zoneOf = (event) => event.target.closest && event.target.closest(".nv-drop");
  const visible = () => [...document.querySelectorAll(".nv-drop")].find((zone) => zone.offsetParent !== null);

  document.addEventListener("click", (event) => { const zone = zoneOf(event); if (zone) choose(zone); });
  document.addEventListener("keydown", (event) => {
    const zone = zoneOf(event);
    if (zone && (event.key === "Enter" || event.key === " ")) { event.preventDefault(); choose(zone); }
  });
  // Beside a zone too: the browser would leave the page and show the file.
  const hasFiles = (event) => event.dataTransfer && event.dataTransfer.types.includes("Files");
  document.addEventListener("dragover", (event) => { if (hasFiles(event)) event.preventDefault(); });
  document.addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    const zone = zoneOf(event) || visible();
    if (zone && event.dataTransfer.files.length) send(zone, [...event.dataTransfer.files]);
  });
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData ? event.clipboardData.files : [])], zone = visible();
    if (files.length && zone) send(zone, files);
  });

  window.nvWebcam = async (id) => {
    const zone = document.getElementById("c" + id);
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: true });
    } catch (error) {
      zone.dispatchEvent(new CustomEvent("files", { detail: { ids: [], errors: ["the browser gives no camera: " + error.name] } }));
      return;
    }
    const dialog = document.createElement("dialog"), video = document.createElement("video");
    const shoot = document.createElement("button"), cancel = document.createElement("button");
    dialog.className = "nv-webcam";
    [shoot.textContent, cancel.textContent] = ["Take a photo", "Cancel"];
    const close = () => { stream.getTracks().forEach((track) => track.stop()); dialog.remove(); };
    shoot.onclick = () => {
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
      canvas.getContext("2d").drawImage(video, 0, 0);
      canvas.toBlob((blob) => { send(zone, [new File([blob], "webcam.png", { type: "image/png" })]); close(); });
    };
    cancel.onclick = dialog.oncancel = close;
    dialog.append(video, shoot, cancel);
    document.body.append(dialog);
    [video.srcObject, video.autoplay] = [stream, true];
    dialog.showModal();
  };
})();
