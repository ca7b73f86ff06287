// Files that are chosen, dropped, pasted or photographed go to /api/files; the element then gets a "files" event with their ids.
(() => {
  const send = async (zone, files) => {
    const form = new FormData();
    for (const file of files) form.append("files", file, file.name || "pasted.png");
    zone.classList.add("nv-busy");
    let detail;
    try {
      const answer = await fetch("/api/files", { method: "POST", body: form });
      const body = await answer.json();
      detail = answer.ok ? { ids: body.map((file) => file.id) } : { error: typeof body.detail === "string" ? body.detail : answer.statusText };
    } catch (error) {
      detail = { error: "the upload was refused or interrupted: the file may be too large" };
    }
    zone.classList.remove("nv-busy");
    zone.dispatchEvent(new CustomEvent("files", { detail }));
  };
  const choose = (zone) => {
    const input = document.createElement("input");
    input.type = "file";
    input.accept = zone.dataset.accept;
    input.multiple = true;
    input.onchange = () => input.files.length && send(zone, input.files);
    input.click();
  };
  const zoneOf = (event) => event.target.closest && event.target.closest(".nv-drop");
  const visible = () => [...document.querySelectorAll(".nv-drop")].find((zone) => zone.offsetParent !== null);

  document.addEventListener("click", (event) => { const zone = zoneOf(event); if (zone) choose(zone); });
  document.addEventListener("keydown", (event) => {
    const zone = zoneOf(event);
    if (zone && (event.key === "Enter" || event.key === " ")) { event.preventDefault(); choose(zone); }
  });
  document.addEventListener("dragover", (event) => { if (zoneOf(event)) event.preventDefault(); });
  document.addEventListener("drop", (event) => {
    const zone = zoneOf(event);
    if (!zone) return;
    event.preventDefault();
    if (event.dataTransfer.files.length) send(zone, event.dataTransfer.files);
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
      zone.dispatchEvent(new CustomEvent("files", { detail: { error: "the browser gives no camera: " + error.name } }));
      return;
    }
    const dialog = document.createElement("dialog"), video = document.createElement("video");
    const shoot = document.createElement("button"), cancel = document.createElement("button");
    dialog.className = "nv-webcam";
    [shoot.textContent, cancel.textContent] = ["Take the picture", "Cancel"];
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
